"""A chunk of CSV as a checked frame, and its lines with the answers joined on."""
