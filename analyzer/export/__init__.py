"""Other forms of an audit: cited packets, anonymised audits, and the differences between two reports."""
