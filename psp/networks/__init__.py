"""Every network, one family a file, and how state dicts get into them."""
