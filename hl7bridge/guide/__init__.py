"""The HL7 v2-to-FHIR guide beside our tables: which of its rows they hold, and which they do not, and why."""
