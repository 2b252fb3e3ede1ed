"""``make demo``: the stories that SmtpProbe exists for, on embedded mail servers, without a cluster."""
