"""The board that the agent runs on: what it is, what it measures, what it is made of in software when there is none."""
