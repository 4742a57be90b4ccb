"""The Open Inference Protocol (V2) over REST, with the binary tensor data extension"""
