"""Generated from proto/langtrain/v1; `make proto` writes it."""
