from __future__ import annotations
def project_images(): return {}
