"""Our own plugins, declared as those of others are."""

from rapidrtmp.discovery import (
    AuthenticatorPlugin,
    ContributionPlugin,
    DirectoryPlugin,
    SinkPlugin,
    StoragePlugin,
    TranscoderPlugin,
)

hls = SinkPlugin("hls", "HTTP Live Streaming, with low-latency parts", "rapidrtmp.hls.sink.HlsSinkFactory")
record = SinkPlugin("record", "Recordings, playable while they grow", "rapidrtmp.recording.sink.RecorderFactory")
thumbnail = SinkPlugin("thumbnail", "A picture of the stream, as JPEG", "rapidrtmp.decoding.thumbnail.ThumbnailFactory")

memory = StoragePlugin(
    "memory", "Objects in memory; gone with the process", "rapidrtmp.storage.memory.MemoryStorageFactory"
)
local = StoragePlugin("local", "Objects as files of a directory", "rapidrtmp.storage.filesystem.LocalStorageFactory")
gcs = StoragePlugin("gcs", "Objects in a Google Cloud Storage bucket", "rapidrtmp.storage.gcs.GcsStorageFactory")

token = AuthenticatorPlugin(
    "token",
    "A signed token is needed, which the API hands out",
    "rapidrtmp.auth.token.TokenAuthenticatorFactory",
)
jwt = AuthenticatorPlugin(
    "jwt", "A JSON Web Token of another server is needed", "rapidrtmp.auth.jwt.JwtAuthenticatorFactory"
)
webhook = AuthenticatorPlugin(
    "webhook", "Another server decides, asked over HTTP", "rapidrtmp.auth.webhook.WebhookAuthenticatorFactory"
)
http_users = AuthenticatorPlugin(
    "http-users", "Names and passwords in a file", "rapidrtmp.auth.http_users.HttpUsersAuthenticatorFactory"
)
open_to_all = AuthenticatorPlugin("open", "No question is asked", "rapidrtmp.auth.open.OpenAuthenticatorFactory")

single = DirectoryPlugin(
    "single", "One process, which owns every stream", "rapidrtmp.directory.single.SingleDirectoryFactory"
)
local_directory = DirectoryPlugin(
    "local", "The processes of one machine: locked files in a folder", "rapidrtmp.directory.local.LocalDirectoryFactory"
)
redis_directory = DirectoryPlugin(
    "redis", "Several machines: leases in Redis or Valkey", "rapidrtmp.directory.redis.RedisDirectoryFactory"
)

ffmpeg = TranscoderPlugin(
    "ffmpeg", "Ladders by an FFmpeg child process", "rapidrtmp.transcode.ffmpeg.FfmpegTranscoderFactory"
)

recordings = ContributionPlugin(
    "recordings",
    "The library of recordings, and recording by hand",
    "rapidrtmp.recording.contribution.RecordingsContribution",
)
relays = ContributionPlugin(
    "relays",
    "Streams pushed to other servers, and pulled from them",
    "rapidrtmp.relay.contribution.Relaying",
    "rapidrtmp.relay.settings.RelaySettings",
)
pictures = ContributionPlugin(
    "pictures", "I-frame playlists of live streams, to look for a moment", "rapidrtmp.hls.i_frames.Pictures"
)
rewinding = ContributionPlugin(
    "rewinding", "What streams with a rewind window serve", "rapidrtmp.hls.rewind.http.Rewinding"
)
