-- Customers, products, orders, their lines, reviews and manuals.
INSERT INTO shop.customers (id, name, email, home, birthday, preferences, registered_at)
SELECT
    i, first || ' ' || last, lower(first) || '.' || i || '@' || pg_temp.pick('{example.com,example.org,mail.example.net}', i, 3),
    ROW(
        pg_temp.pick('{High Street,Rue de l''Église,Hauptstraße,Calle Mayor,Via Roma,Kirkegata,Ulica Długa,Station Road}', i, 4),
        1 + pg_temp.below(180, i, 5) || pg_temp.pick('{"","","",a,b}', i, 6),
        lpad(pg_temp.below(100000, i, 7)::text, 5, '0'),
        pg_temp.pick('{York,Zürich,Lyon,Málaga,Bologna,Bergen,Kraków,Uppsala,Gent,Porto}', i, 8),
        pg_temp.pick('{GB,CH,FR,ES,IT,NO,PL,SE,BE,PT}', i, 8)
    )::shop.address,
    CASE WHEN pg_temp.below(10, i, 9) > 0 THEN date '1940-01-01' + pg_temp.below(24000, i, 10)::int END,
    jsonb_build_object(
        'language', pg_temp.pick('{en,de,fr,es,it}', i, 11),
        'newsletter', pg_temp.below(2, i, 12) = 0,
        'sizes', jsonb_build_array(pg_temp.pick('{S,M,L,XL}', i, 13), 36 + pg_temp.below(12, i, 14))
    ),
    timestamptz '2020-01-01 00:00:00+00' + pg_temp.below(126000000, i, 15) * interval '1 second'
FROM generate_series(1, pg_temp.scaled(60000)) AS i
CROSS JOIN LATERAL (
    SELECT
        pg_temp.pick('{Ada,Bruno,Chloé,Dmitri,Elif,Femi,Grace,Håkon,Ines,José,Kaja,Liam,Mei,Noor,Otto,Priya,Rosa,Søren,Tomás,Yuki}', i, 1),
        pg_temp.pick('{Almeida,Björk,Costa,Dubois,Eriksen,Fischer,García,Hughes,Ivanova,Jansen,Kowalski,Lindqvist,Moreau,Novák,O''Brien}', i, 2)
) AS n (first, last);

-- A manual for every fiftieth product.
INSERT INTO shop.products (id, sku, title, price, tags, attributes, stock, available, manual)
SELECT
    i, 'SKU-' || lpad(i::text, 7, '0'),
    pg_temp.pick('{Classic,Modern,Compact,Deluxe,Everyday,Feather-light,Heavy-duty,Recycled}', i, 1) || ' '
        || pg_temp.pick('{oak,steel,linen,copper,wool,glass,bamboo,ceramic}', i, 2) || ' '
        || pg_temp.pick('{lamp,kettle,chair,rucksack,notebook,teapot,blanket,clock,shelf,tent}', i, 3),
    (99 + pg_temp.below(49900, i, 4)) / 100.0,
    ARRAY[pg_temp.pick('{home,garden,office,travel}', i, 5), pg_temp.pick('{sale,new,"last chance",gift}', i, 6)],
    jsonb_build_object(
        'colour', pg_temp.pick('{red,green,blue,black,white}', i, 7),
        'weight_g', 50 + pg_temp.below(9000, i, 8),
        'dimensions', jsonb_build_object('w', pg_temp.below(200, i, 9), 'h', pg_temp.below(200, i, 10), 'd', pg_temp.below(90, i, 11)),
        'rating', (pg_temp.below(500, i, 12) / 100.0)
    ),
    pg_temp.below(500, i, 13),
    daterange(date '2023-01-01' + pg_temp.below(700, i, 14)::int, NULL),
    CASE WHEN i % 50 = 0 THEN lo_from_bytea(70000000 + i, convert_to(repeat('Manual of product ' || i || E'. Keep it dry.\n', 1000), 'UTF8')) END
FROM generate_series(1, pg_temp.scaled(10000)) AS i;

INSERT INTO shop.orders (id, customer_id, status, invoice, placed_at, note)
SELECT
    i, 1 + pg_temp.below(pg_temp.scaled(60000), i, 1),
    pg_temp.pick('{placed,paid,packed,shipped,delivered,delivered,delivered,delivered,returned,cancelled}', i, 2)::shop.order_status,
    CASE WHEN pg_temp.below(10, i, 3) > 0 THEN nextval('shop.invoice_number') END,
    timestamptz '2024-01-01 00:00:00+00' + i * interval '150 seconds' / current_setting('shop.scale')::float8,
    pg_temp.pick(
        E'{NULL,NULL,NULL,NULL,NULL,"Please leave it with the neighbours.","It\'s a present: no invoice in the parcel!","Ring twice.\nThe bell is broken."}',
        i, 4
    )
FROM generate_series(1, pg_temp.scaled(400000)) AS i;

INSERT INTO shop.order_items (order_id, line, product_id, quantity, price)
SELECT i, line, 1 + pg_temp.below(pg_temp.scaled(10000), i, 10 + line), 1 + pg_temp.below(4, i, 20 + line), (99 + pg_temp.below(49900, i, 30 + line)) / 100.0
FROM generate_series(1, pg_temp.scaled(400000)) AS i CROSS JOIN LATERAL generate_series(1, 1 + pg_temp.below(4, i, 5)::int) AS line;

INSERT INTO shop.reviews (product_id, customer_id, stars, body, written_at)
SELECT
    1 + pg_temp.below(pg_temp.scaled(10000), i, 1), 1 + pg_temp.below(pg_temp.scaled(60000), i, 2), 1 + pg_temp.below(5, i, 3),
    (
        SELECT string_agg(
            pg_temp.pick(
                ARRAY[
                    'It does what it says.', 'The colour is not quite that of the picture.', 'My daughter loves it: “the best thing ever”!',
                    'It arrived two days late, but well packed.', E'Pros:\n\t- light\n\t- quiet\n', 'I would buy it again.', 'Le manuel n''existe qu''en anglais…',
                    'After three months of daily use, it shows no sign of wear whatsoever.', 'The lid does not close.', 'Große Klasse 👍',
                    'I sent it back & got my money within a week (thanks!).', 'Smaller than I had thought, so measure your shelf first.'
                ], i, 100 + number
            ), ' ' ORDER BY number
        )
        FROM generate_series(1, 3 + pg_temp.below(40, i, 4)::int) AS number
    ),
    timestamptz '2024-02-01 00:00:00+00' + pg_temp.below(60000000, i, 5) * interval '1 second'
FROM generate_series(1, pg_temp.scaled(50000)) AS i;

-- Their keys and indexes.
ALTER TABLE shop.customers ADD PRIMARY KEY (id), ADD CONSTRAINT customers_email UNIQUE (email);
ALTER TABLE shop.products ADD PRIMARY KEY (id), ADD UNIQUE (sku), ADD CHECK (price > 0);
ALTER TABLE shop.orders ADD PRIMARY KEY (id), ADD FOREIGN KEY (customer_id) REFERENCES shop.customers;
ALTER TABLE shop.order_items ADD PRIMARY KEY (order_id, line), ADD FOREIGN KEY (order_id) REFERENCES shop.orders ON DELETE CASCADE,
    ADD FOREIGN KEY (product_id) REFERENCES shop.products, ADD CONSTRAINT quantity_positive CHECK (quantity > 0);
ALTER TABLE shop.reviews ADD PRIMARY KEY (id), ADD FOREIGN KEY (product_id) REFERENCES shop.products,
    ADD FOREIGN KEY (customer_id) REFERENCES shop.customers, ADD CHECK (stars BETWEEN 1 AND 5);
CREATE INDEX products_attributes ON shop.products USING gin (attributes);
CREATE INDEX products_tags ON shop.products USING gin (tags);
CREATE INDEX products_search ON shop.products USING gin (search);
CREATE INDEX orders_customer ON shop.orders (customer_id, placed_at DESC);
CREATE INDEX orders_open ON shop.orders (placed_at) WHERE status IN ('placed', 'paid', 'packed');
CREATE INDEX order_items_product ON shop.order_items (product_id) INCLUDE (quantity);
CREATE INDEX reviews_product ON shop.reviews (product_id, stars);
