"""Images: the embedded scenes, folders of one's own, and the manifest that describes both."""
