"""The media timeline: from coded frames on the publisher's clock to frames in ticks; knows no codec."""
