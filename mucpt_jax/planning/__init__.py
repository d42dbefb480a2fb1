"""What a compiled step tells before anything is rented."""
