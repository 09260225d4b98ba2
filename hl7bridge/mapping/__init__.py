"""The mapping tables: loading, checking, compiling. Knows HL7 v2 text and FHIR element names, no IO but reading the tables."""
