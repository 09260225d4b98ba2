"""FHIR R4: the model as data, identity, bundles."""
