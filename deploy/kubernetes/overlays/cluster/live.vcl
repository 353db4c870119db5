# As deploy/varnish/live.vcl, before several nodes: what one cannot answer is asked again, of whichever comes next.
vcl 4.1;
import std;

backend origin {
    .host = "rapidrtmp-http";
    .port = "80";
    .first_byte_timeout = 30s;    # a blocking reload waits for up to three target durations
    .between_bytes_timeout = 10s;
    .max_connections = 4000;
}

sub vcl_recv {
    if (req.url == "/cache-is-up") { return (synth(200)); }
    if (req.http.Upgrade ~ "(?i)websocket") { return (pipe); }    # players of FLV
    if (req.method != "GET" && req.method != "HEAD") { return (pass); }
    # A token in the path, an API, a page: not ours to keep.
    if (req.url !~ "^/[^/]+/[^/~][^/]*/([^/~][^/?]*/)?[^/?]+\.(m3u8|m4s|mp4)(\?|$)" || req.url ~ "^/recordings/") { return (pass); }
    unset req.http.Cookie;
    unset req.http.Authorization;
    set req.url = std.querysort(req.url);
    if (req.url !~ "[?&](_HLS_|from=|to=)") { set req.url = regsub(req.url, "\?.*$", ""); }
    return (hash);
}

sub vcl_backend_response {
    set beresp.grace = 0s;    # a playlist that is late is wrong
    if (beresp.status == 404) { set beresp.ttl = 1s; }
    elsif (beresp.status != 200) { set beresp.ttl = 0s; set beresp.uncacheable = true; }
    return (deliver);         # the rest as the origin's Cache-Control says; the built-in rules would pass all playlists
}

sub vcl_backend_error {
    if (bereq.retries < 3) { return (retry); }
}

sub vcl_pipe {
    if (req.http.Upgrade) {
        set bereq.http.Upgrade = req.http.Upgrade;
        set bereq.http.Connection = req.http.Connection;
    }
}
