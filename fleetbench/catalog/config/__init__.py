"""What `config_json.py` is made of: reading keys, conventions by family, layers, number formats. Pure."""
