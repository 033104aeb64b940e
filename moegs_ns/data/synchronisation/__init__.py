"""Which frames of several recordings show one instant, by timecode or by sound."""
