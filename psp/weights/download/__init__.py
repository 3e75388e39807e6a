"""Published weights from the web: resumed, verified, under their names."""
