"""Workers: the parent that watches, the child that runs task functions, and what follows an end."""
