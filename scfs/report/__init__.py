"""Tables, figures and the HTML report; reads results only."""
