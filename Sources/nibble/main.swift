print("nibble")
