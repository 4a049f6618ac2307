"""Place: names and bytes.  Knows files; knows no frame, no Raft and no trio."""
