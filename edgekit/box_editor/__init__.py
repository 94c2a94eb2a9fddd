"""The box editor: a local page on which a person draws and corrects the boxes of a table. `table` keeps them, `server` shows the page."""
