"""One exported model, used three ways: whole tables (Spark), arriving images (Spark), and a web page (no Spark)."""
