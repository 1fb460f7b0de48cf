"""The call status module: shall the call go to voicemail?"""
