"""Archives as they are published: members, formats, and checks against what an archive could do to its reader."""
