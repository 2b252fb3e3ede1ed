"""The SmtpProbe operator: SmtpProbe resources in, probe Jobs out, verdicts into status, events and metrics."""
