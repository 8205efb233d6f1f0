"""Ask a finished study about any picture: which training images is it owed to, and how sure is
that?"""
