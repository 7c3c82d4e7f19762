"""What each screen of the web page shows, as plain dicts; how it looks is the business of web/."""
