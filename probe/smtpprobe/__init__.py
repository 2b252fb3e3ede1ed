"""SmtpProbe: can this place send mail, and if not, whose fault is it, with proof."""
