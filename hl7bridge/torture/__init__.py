"""What a receiver of MLLP must bear: cases as bytes to send and a judgement of what came, and their runner."""
