"""HL7 v2 over MLLP in, FHIR out: durable before acknowledged, mapped by YAML tables, delivered or dead-lettered."""

__version__ = "0.1.0"
