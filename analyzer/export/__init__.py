"""What leaves an audit in another form: cited packets, pseudonyms, and the differences between two reports."""
