"""HL7 v2 as bytes and text: parsing, escapes, charsets, structures, ACKs. Sans-IO."""
