"use strict";
/*
 * Writes what OBS takes as a configuration of its multitrack output (OBS 30.2 and later): which sizes it encodes, with
 * keyframes at the same moments, and where it sends them. All of it is done here: a publish URL holds a secret.
 *
 * OBS makes the stream key of the name in "authentication" and of the query of the URL, and of nothing else.
 */

/* Sizes by their lines, with kilobits a second at 30 frames. */
const LADDER = { 1440: 9000, 1080: 6000, 720: 3000, 480: 1200, 360: 700 };
const KEYFRAME_S = 2;
const MOST_FRAMES_SMALL = 30; // a second, of the sizes below 720 lines

/* The configuration for a publish URL; an Error says what is wrong with the URL. */
export function configuration(address, { lines, frames, encoder, hasSecond }) {
  const { server, name, query, protocol } = parts(address.trim());
  const sizes = Object.keys(LADDER).map(Number).filter((each) => each <= lines).sort((a, b) => b - a);
  const audio = (track) => ({ codec: "ffmpeg_aac", track_id: track, channels: 2, settings: { bitrate: 160 } });
  return {
    meta: { service: "RapidRTMP", schema_version: "2024-06-04", config_id: "" },
    ingest_endpoints: [{ protocol, url_template: `${server}/{stream_key}${query}`, authentication: name }],
    encoder_configurations: sizes.map((each) => video(each, frames, encoder)),
    audio_configurations: { live: [audio(1)], ...(hasSecond ? { vod: [audio(2)] } : {}) },
  };
}

function video(lines, frames, encoder) {
  const halves = lines < 720 && frames > MOST_FRAMES_SMALL ? 2 : 1;
  const rate = frames / halves;
  return {
    type: encoder,
    width: 2 * Math.round((lines * 8) / 9),
    height: lines,
    framerate: { numerator: rate, denominator: 1 },
    gpu_scale_type: "OBS_SCALE_BICUBIC",
    colorspace: "VIDEO_CS_709",
    range: "VIDEO_RANGE_PARTIAL",
    format: "VIDEO_FORMAT_NV12",
    settings: {
      rate_control: "CBR",
      bitrate: Math.round((LADDER[lines] * (rate > 30 ? 1.5 : 1)) / 100) * 100,
      keyint_sec: KEYFRAME_S,
      bf: 0,
      profile: "high",
    },
    canvas_index: 0,
  };
}

function parts(address) {
  const found = /^(rtmps?):\/\/([^/?#\s]+)\/([^?#\s]+)\/([^/?#\s]+)(\?[^#\s]*)?$/i.exec(address);
  if (!found) throw new Error("A publish URL looks like rtmp://host/live/show?token=…");
  const [, scheme, host, app, name, query] = found;
  return {
    server: `${scheme.toLowerCase()}://${host}/${app}`, name, query: query || "", protocol: scheme.toUpperCase(),
  };
}

const field = (id) => document.getElementById(id);

function write() {
  const problem = field("problem");
  const address = field("url").value;
  problem.hidden = true;
  field("json").value = "";
  if (!address.trim()) return;
  try {
    const options = {
      lines: Number(field("size").value), frames: Number(field("rate").value),
      encoder: field("encoder").value, hasSecond: field("second").checked,
    };
    field("json").value = JSON.stringify(configuration(address, options), null, 2);
  } catch (error) {
    problem.textContent = error.message;
    problem.hidden = false;
  }
}

field("form").addEventListener("input", write);
field("form").addEventListener("submit", (event) => event.preventDefault());
field("copy").addEventListener("click", () => {
  field("json").select();
  navigator.clipboard?.writeText(field("json").value).catch(() => {});
});
write();
