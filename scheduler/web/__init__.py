"""The web page and the HTTP interface: a door. People and programs come in; what is asked is done by the engine."""
