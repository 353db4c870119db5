"use strict";
/*
 * Plays one live stream: hls.js in low-latency mode where Media Source Extensions exist, the browser's own HLS
 * otherwise. It never gives up: a stream that is not there yet, or went away, is asked for again and again, slowly.
 */
(() => {
  const main = document.querySelector("main");
  const video = document.getElementById("video");
  const unmute = document.getElementById("unmute");
  const multivariant = new URL(main.dataset.multivariant, location.href).href;
  const media = new URL(main.dataset.media, location.href).href;
  const FIRST_RETRY_MS = 1000;
  const LONGEST_RETRY_MS = 8000;
  const STUCK_MS = 12000;

  let hls = null;
  let retryTimer = 0;
  let retryMs = FIRST_RETRY_MS;
  let recoveries = 0;
  let lastTime = -1;
  let lastProgress = performance.now();
  let finished = false;
  let played = false;
  const loaded = [];

  /* What a test, or a curious person at the console, can read. */
  window.rapidrtmp = {
    get currentTime() { return video.currentTime; },
    get latency() { return latency(); },
    get droppedFrames() { return quality().droppedVideoFrames; },
    get decodedFrames() { return quality().totalVideoFrames; },
    get state() { return document.getElementById("state").dataset.kind; },
    get engine() { return hls ? "hls.js" : video.src ? "native" : "none"; },
    recoveries: 0,
  };

  function quality() {
    if (video.getVideoPlaybackQuality) return video.getVideoPlaybackQuality();
    return {
      droppedVideoFrames: video.webkitDroppedFrameCount || 0,
      totalVideoFrames: video.webkitDecodedFrameCount || 0,
    };
  }

  /* Seconds behind the encoder, by the playlist's own dates where there are any. */
  function latency() {
    if (finished) return NaN;
    const playing = hls ? hls.playingDate : startDate();
    if (playing) return Math.max((Date.now() - playing.getTime()) / 1000, 0);
    return hls && hls.latency > 0 ? hls.latency : NaN;
  }

  function startDate() {
    const start = video.getStartDate ? video.getStartDate() : null;
    const ms = start ? start.getTime() : NaN;
    return Number.isFinite(ms) ? new Date(ms + video.currentTime * 1000) : null;
  }

  function say(kind, words) {
    const state = document.getElementById("state");
    if (state.textContent === words && state.dataset.kind === kind) return;
    state.dataset.kind = kind;
    state.textContent = words;
  }

  function show(id, words) {
    const element = document.getElementById(id);
    if (element.textContent !== words) element.textContent = words;
  }

  function play() {
    const started = video.play();
    if (started) started.catch(() => {
      video.muted = true;
      video.play().catch(() => say("waiting", "Press play to start"));
    });
  }

  function stop() {
    clearTimeout(retryTimer);
    if (hls) {
      hls.destroy();
      hls = null;
    } else if (video.src) {
      video.removeAttribute("src");
      video.load();
    }
  }

  /* Begin again, a little later each time. */
  function retry(kind, words) {
    stop();
    say(kind, words);
    retryTimer = setTimeout(start, retryMs);
    retryMs = Math.min(retryMs * 1.5, LONGEST_RETRY_MS);
  }

  /* The stream has ended: leave the last picture up, and look now and then whether it is back. */
  function finish() {
    clearTimeout(retryTimer);
    if (hls) hls.stopLoad();
    finished = true;
    say("ended", "The stream has ended; this page waits for it to return");
    retryTimer = setTimeout(lookForReturn, LONGEST_RETRY_MS);
  }

  async function lookForReturn() {
    try {
      const answer = await fetch(media, { cache: "no-store" });
      if (answer.ok && !(await answer.text()).includes("#EXT-X-ENDLIST")) {
        start();
        return;
      }
    } catch {
      // the server is away: that is no reason to stop looking
    }
    retryTimer = setTimeout(lookForReturn, LONGEST_RETRY_MS);
  }

  function start() {
    stop();
    finished = played = false;
    lastProgress = performance.now();
    if (window.Hls && Hls.isSupported()) startHlsJs();
    else if (video.canPlayType("application/vnd.apple.mpegurl")) startNative();
    else say("failed", "This browser can not play live streams");
  }

  function startHlsJs() {
    hls = new Hls({
      lowLatencyMode: true,
      backBufferLength: 30,
      maxLiveSyncPlaybackRate: 1.1,
      manifestLoadPolicy: {
        default: { maxTimeToFirstByteMs: 15000, maxLoadTimeMs: 20000, timeoutRetry: null, errorRetry: null },
      },
    });
    hls.on(Hls.Events.MANIFEST_PARSED, play);
    hls.on(Hls.Events.LEVEL_LOADED, (_, data) => { if (!data.details.live && !played) finish(); });
    hls.on(Hls.Events.FRAG_BUFFERED, loadedFragment);
    hls.on(Hls.Events.ERROR, (_, data) => { if (data.fatal && !finished) recover(data); });
    hls.loadSource(multivariant);
    hls.attachMedia(video);
  }

  function startNative() {
    video.src = multivariant;
    play();
  }

  function recover(error) {
    recoveries += 1;
    window.rapidrtmp.recoveries = recoveries;
    const status = error.response ? error.response.code : 0;
    if (error.type === Hls.ErrorTypes.MEDIA_ERROR && recoveries % 4 !== 0) {
      say("waiting", "Recovering from a playback problem…");
      hls.recoverMediaError();
      return;
    }
    if (status === 404) retry("waiting", "Waiting for the stream to begin…");
    else if (status === 503) retry("waiting", "The server is busy; trying again…");
    else retry("waiting", "The stream was interrupted; reconnecting…");
  }

  video.addEventListener("error", () => {
    if (!hls && video.src) retry("waiting", "Waiting for the stream to begin…");
  });
  video.addEventListener("ended", finish);
  video.addEventListener("volumechange", () => { unmute.hidden = !video.muted; });
  unmute.addEventListener("click", () => {
    video.muted = false;
    play();
    unmute.hidden = true;
  });
  document.addEventListener("visibilitychange", () => {
    lastProgress = performance.now(); // a hidden page is throttled: that is no stall
  });

  function watch() {
    showNumbers();
    if (finished) return;
    const now = performance.now();
    const active = Boolean(hls || video.src);
    if (video.currentTime !== lastTime) {
      lastTime = video.currentTime;
      lastProgress = now;
      if (active && !video.paused && video.readyState >= 3) {
        retryMs = FIRST_RETRY_MS;
        played = true;
        say("live", "Live");
        if (video.muted) unmute.hidden = false;
      }
    } else if (active && video.paused && video.readyState >= 2) {
      lastProgress = now;
      say("waiting", "Paused");
    } else if (active && !document.hidden && now - lastProgress > STUCK_MS) {
      retry("waiting", "The stream was interrupted; reconnecting…");
    } else if (active && video.readyState >= 1 && now - lastProgress > 2000) {
      say("waiting", "Buffering…");
    }
  }

  function showNumbers() {
    const behind = latency();
    show("latency", Number.isFinite(behind) ? behind.toFixed(1) + " s" : "–");
    show("bitrate", bitrate());
    show("resolution", video.videoWidth ? video.videoWidth + "×" + video.videoHeight : "–");
    show("dropped", quality().totalVideoFrames ? String(quality().droppedVideoFrames) : "–");
  }

  /* The media's own bitrate, from the sizes of what was loaded lately. */
  function loadedFragment(_, data) {
    const seconds = (data.part || data.frag).duration;
    if (data.frag.sn === "initSegment" || !seconds || !data.stats.loaded) return;
    loaded.push([data.stats.loaded, seconds]);
    if (loaded.length > 12) loaded.shift();
  }

  function bitrate() {
    const seconds = loaded.reduce((sum, [, duration]) => sum + duration, 0);
    const octets = loaded.reduce((sum, [size]) => sum + size, 0);
    return seconds ? ((octets * 8) / seconds / 1e6).toFixed(2) + " Mbit/s" : "–";
  }

  setInterval(watch, 250);
  start();
})();
