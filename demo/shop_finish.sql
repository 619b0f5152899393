-- What joins the two halves: a foreign key, views, a trigger, and sequences that know what is taken.
ALTER TABLE shop.events ADD FOREIGN KEY (customer_id) REFERENCES shop.customers;

CREATE VIEW shop.order_totals AS
SELECT o.id, o.customer_id, o.status, o.placed_at, sum(i.total) AS total, count(*) AS lines
FROM shop.orders AS o JOIN shop.order_items AS i ON i.order_id = o.id GROUP BY o.id;
CREATE MATERIALIZED VIEW shop.monthly_sales AS
SELECT date_trunc('month', placed_at, 'UTC') AS month, status, count(*) AS orders, sum(total) AS revenue FROM shop.order_totals GROUP BY 1, 2;
CREATE UNIQUE INDEX monthly_sales_month ON shop.monthly_sales (month, status);

CREATE FUNCTION shop.take_from_stock() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shop.products SET stock = greatest(0, stock - NEW.quantity) WHERE id = NEW.product_id;
    RETURN NULL;
END
$$;
CREATE TRIGGER take_from_stock AFTER INSERT ON shop.order_items FOR EACH ROW EXECUTE FUNCTION shop.take_from_stock();
COMMENT ON TABLE shop.events IS 'What visitors did, by month';
COMMENT ON COLUMN shop.products.manual IS 'A large object';

SELECT setval('shop.customers_id_seq', max(id)) FROM shop.customers;
SELECT setval('shop.products_id_seq', max(id)) FROM shop.products;
SELECT setval('shop.orders_id_seq', max(id)) FROM shop.orders;
