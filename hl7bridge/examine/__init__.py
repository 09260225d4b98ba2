"""What `hl7bridge doctor` looks at: one file a subject, `everything` in the order a message takes."""
