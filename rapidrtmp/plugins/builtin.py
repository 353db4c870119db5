"""Our own plugins, declared as those of others are."""

from rapidrtmp.discovery import AuthenticatorPlugin, ContributionPlugin, SinkPlugin, StoragePlugin

hls = SinkPlugin("hls", "HTTP Live Streaming, with low-latency parts", "rapidrtmp.hls.sink.HlsSinkFactory")
record = SinkPlugin("record", "Recordings, playable while they grow", "rapidrtmp.recording.sink.RecorderFactory")

memory = StoragePlugin(
    "memory", "Objects in memory; gone with the process", "rapidrtmp.storage.memory.MemoryStorageFactory"
)
local = StoragePlugin("local", "Objects as files of a directory", "rapidrtmp.storage.filesystem.LocalStorageFactory")
gcs = StoragePlugin("gcs", "Objects in a Google Cloud Storage bucket", "rapidrtmp.storage.gcs.GcsStorageFactory")

token = AuthenticatorPlugin(
    "token",
    "Publishing needs a signed token, which the API hands out",
    "rapidrtmp.auth.token.TokenAuthenticatorFactory",
)
open_to_all = AuthenticatorPlugin("open", "Any peer may publish", "rapidrtmp.auth.open.OpenAuthenticatorFactory")

recordings = ContributionPlugin(
    "recordings",
    "The library of recordings, and recording by hand",
    "rapidrtmp.recording.contribution.RecordingsContribution",
)
rewinding = ContributionPlugin(
    "rewinding", "What streams with a rewind window serve", "rapidrtmp.hls.rewind.http.Rewinding"
)
