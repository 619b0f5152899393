-- requires xml
CREATE SCHEMA zoo_xml;
CREATE TABLE zoo_xml.documents (id int PRIMARY KEY, x xml, xs xml[]);
INSERT INTO zoo_xml.documents VALUES
    (1, '<a b="c">text &amp; more</a>', ARRAY['<a/>'::xml, NULL]),
    (2, XMLPARSE(DOCUMENT '<?xml version="1.0"?><!-- c --><r><![CDATA[a]]></r>'), '{}'),
    (3, XMLPARSE(CONTENT E'plain\n\ttext <b/>'), NULL),
    (4, '', NULL),
    (5, NULL, NULL);
