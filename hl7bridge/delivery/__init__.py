"""From bundle to FHIR endpoint: outcome, retry, lanes, dead letters."""
