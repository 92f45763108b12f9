"""How much of the product document's code runs as written: the product's own measure of its mission."""
