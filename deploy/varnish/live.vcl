# Varnish 6 or later in front of RapidRTMP, low latency included: each URL is asked for once, for however many viewers.
# TLS and HTTP/2, which Safari needs, belong in front of it (hitch, HAProxy, nginx).
vcl 4.1;
import std;

backend origin {
    .host = "127.0.0.1";
    .port = "8080";
    .first_byte_timeout = 30s;    # a blocking reload waits for up to three target durations
    .between_bytes_timeout = 10s;
    .max_connections = 4000;
}

sub vcl_recv {
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
