"""From the beam behind the patient to the stored film."""
