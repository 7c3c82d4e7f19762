"""The pages for people: a module for each, a router in each, its templates in ../templates."""
