"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  // A photo is [path, class indices, scores, label indices, URL, label, score]; `data.classes` has the class names by
  // index. The label is that of the decision, "" without one; the score is that of this label, else of the top-1 class.
  const photo = (card) => data.photos[card.dataset.photo];
  const folded = (text) => text.normalize("NFC").toLowerCase();  // names from a Mac are in NFD
  const percent = (score) => (100 * score).toFixed(1) + " %";

  // Filter the gallery: every search word occurs in path or class, the score is high enough, only mistakes if checked.
  const gallery = document.getElementById("gallery");
  const controls = gallery && gallery.querySelector(".controls");
  if (controls) {
    const [search, slider, mistakes] = ["search", "min-confidence", "only-mistakes"].map((name) => document.getElementById(name));
    const shown = controls.querySelector("output");
    const groups = [...gallery.querySelectorAll(".group")].map((group) => [group, [...group.querySelectorAll(".card")]]);
    const text = Object.fromEntries(Object.entries(data.photos).map(([number, [path, classes, , labels, , label]]) =>
      [number, folded([path, label, ...[classes[0], ...labels].map((index) => data.classes[index])].join("\n"))]));
    const filter = () => {
      const words = folded(search.value).split(/\s+/).filter(Boolean);
      let count = 0, all = 0;
      for (const [group, cards] of groups) {
        let here = 0;
        for (const card of cards) {
          const hit = photo(card)[6] >= slider.value / 100 && words.every((word) => text[card.dataset.photo].includes(word))
            && !(mistakes && mistakes.checked && !card.classList.contains("wrong"));
          card.hidden = !hit;
          here += hit;
        }
        group.hidden = !here;
        count += here;
        all += cards.length;
      }
      document.getElementById("min-confidence-value").textContent = slider.value + " %";
      shown.textContent = count === all ? `${all.toLocaleString("en")} photos` : `${count.toLocaleString("en")} of ${all.toLocaleString("en")} photos`;
      gallery.querySelector(".empty").hidden = count > 0;
    };
    for (const control of [search, slider, mistakes]) if (control) control.addEventListener("input", filter);
    addEventListener("hashchange", () => {  // a link to a class that the filter hides resets the filter
      const group = document.getElementById(location.hash.slice(1));
      if (!group || !group.hidden) return;
      search.value = "";
      slider.value = 0;
      if (mistakes) mistakes.checked = false;
      filter();
      group.scrollIntoView();
    });
    controls.hidden = false;
    filter();
  }

  // Sort tables by a column: by number where it has numbers, empty cells always last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0], headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const number = heading.classList.contains("n");
        const down = heading.ariaSort === "descending" ? false : heading.ariaSort === "ascending" ? true : number;
        const key = (row) => number ? parseFloat(row.cells[column].dataset.value) : row.cells[column].textContent;
        const compare = (one, other) => {
          const [a, b] = [key(one), key(other)];
          if (!number) return (down ? -1 : 1) * a.localeCompare(b);
          if (isNaN(a) || isNaN(b)) return isNaN(a) - isNaN(b);
          return down ? b - a : a - b;
        };
        body.append(...[...body.rows].sort(compare));
        for (const each of headings) each.ariaSort = each === heading ? (down ? "descending" : "ascending") : "none";
      });
    });
  }

  // Print the classes that are folded, too.
  const more = document.querySelector("#classes details");
  if (more) {
    let open = false;
    addEventListener("beforeprint", () => {
      open = more.open;
      more.open = true;
    });
    addEventListener("afterprint", () => { more.open = open; });
  }

  // Heat maps. A map is [cells in base64, lowest and highest contribution, visible part of the photo]; it is drawn in a
  // canvas over the photo, which turns grey. The cells lie between `edges` of the visible part.
  const maps = data.maps ? data.maps.photos : {};
  const switches = [...document.querySelectorAll(".heat-switch")];
  const heated = [];  // [frame, canvas] of the photos that show their map
  const colours = data.maps && data.maps.colours.map((hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const colour = (share) => {
    const place = share * (colours.length - 1), below = Math.min(colours.length - 2, Math.floor(place));
    return colours[below].map((value, channel) => value + (place - below) * (colours[below + 1][channel] - value));
  };
  const palette = colours && [...Array(256).keys()].map((value) => [...colour(value / 255), 153]);
  const stripes = [[0, 0, 0, 165], [0, 0, 0, 115]];  // over the part that the network does not see
  const cellsOf = (map) => Uint8Array.from(atob(map[0]), (char) => char.charCodeAt(0));
  const drawMap = (canvas, map, image) => {
    const { naturalWidth, naturalHeight } = image, enlarged = Math.max(1, 176 / Math.max(naturalWidth, naturalHeight));
    const [width, height] = [naturalWidth, naturalHeight].map((side) => Math.max(1, Math.round(side * enlarged)));
    const cells = cellsOf(map), n = Math.sqrt(cells.length), [first, last] = data.maps.edges;
    const [left, top, right, bottom] = map[3].map((share, at) => share * (at % 2 ? height : width));
    const between = (pixel, from, to) => {  // the two cells between whose centres a pixel is, and the share of the second
      const place = ((pixel + .5 - from) / (to - from) - first) / (last - first) * n - .5, inside = Math.min(n - 1, Math.max(0, place));
      return [Math.floor(inside), Math.ceil(inside), inside % 1];
    };
    const columns = [...Array(width).keys()].map((x) => between(x, left, right));
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const picture = context.createImageData(width, height), bytes = picture.data;
    for (let y = 0; y < height; y++) {
      const [upperRow, lowerRow, down] = between(y, top, bottom), above = n * upperRow, below = n * lowerRow;
      for (let x = 0; x < width; x++) {
        const [before, after, across] = columns[x], seen = x + .5 > left && x + .5 < right && y + .5 > top && y + .5 < bottom;
        const upper = (1 - across) * cells[above + before] + across * cells[above + after];
        const lower = (1 - across) * cells[below + before] + across * cells[below + after];
        const shown = seen ? palette[Math.round((1 - down) * upper + down * lower)] : stripes[(x + y) % 8 < 3 ? 0 : 1];
        bytes.set(shown, 4 * (y * width + x));
      }
    }
    context.putImageData(picture, 0, 0);
  };
  const where = (map) => {  // the place of the highest cell, in words
    const cells = cellsOf(map), n = Math.sqrt(cells.length), highest = cells.indexOf(Math.max(...cells));
    const [first, last] = data.maps.edges, [left, top, right, bottom] = map[3];
    const share = (cell, from, to) => from + (first + (cell + .5) / n * (last - first)) * (to - from);
    const third = (place, names) => names[Math.min(2, Math.max(0, Math.floor(3 * place)))];
    const names = [third(share(Math.floor(highest / n), top, bottom), ["top", "middle", "bottom"]),
      third(share(highest % n, left, right), ["left", "centre", "right"])];
    return names.join(" ").replace("middle centre", "centre");
  };
  const heat = async (frame, image, number) => {
    const canvas = frame.querySelector("canvas") || frame.appendChild(document.createElement("canvas"));
    await image.decode();
    if (frame.dataset.photo && frame.dataset.photo !== String(number)) return;  // the viewer shows another one by now
    drawMap(canvas, maps[number], image);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `heat map of ${data.classes[data.photos[number][1][0]]}: highest at the ${where(maps[number])} of the photo`);
    if (!heated.includes(frame)) heated.push(frame);
    toggle();
  };
  const toggle = () => {
    const on = switches.some((each) => each.checked);
    for (const frame of heated) {
      frame.classList.toggle("heated", on);
      frame.querySelector("canvas").hidden = !on;
    }
  };
  for (const each of switches) each.addEventListener("change", () => {
    for (const other of switches) other.checked = each.checked;
    toggle();
  });
  for (const legend of document.querySelectorAll("main .heat")) legend.hidden = false;
  for (const card of document.querySelectorAll("section:not(#gallery) .card")) {
    const image = card.querySelector("img");
    if (!image || !maps[card.dataset.photo]) continue;
    const frame = document.createElement("span");
    frame.className = "picture";
    image.replaceWith(frame);
    frame.append(image);
    heat(frame, image, card.dataset.photo);
  }

  // Show one photo enlarged with its top classes; arrow keys move within its section.
  const viewer = document.getElementById("viewer");
  const svg = "http://www.w3.org/2000/svg";
  let current = null;
  const bar = (score) => {
    const picture = document.createElementNS(svg, "svg"), rect = document.createElementNS(svg, "rect");
    picture.setAttribute("class", "bar");
    rect.setAttribute("width", 100 * score + "%");
    rect.setAttribute("height", "100%");
    picture.append(rect);
    return picture;
  };
  const showMap = (map, number, image) => {
    const legend = viewer.querySelector(".heat"), frame = viewer.querySelector(".picture"), canvas = frame.querySelector("canvas");
    if (!legend) return;
    legend.hidden = !map;
    frame.dataset.photo = number;
    frame.classList.remove("heated");
    if (canvas) canvas.remove();
    const at = heated.indexOf(frame);
    if (at >= 0) heated.splice(at, 1);
    if (!map) return;
    legend.querySelector("b").textContent = data.classes[photo({ dataset: { photo: number } })[1][0]];
    const signed = (value) => (value > 0 ? "+" : "") + value;
    legend.querySelector(".low").textContent = signed(map[1]);
    legend.querySelector(".high").textContent = signed(map[2]);
    heat(frame, image, number);
  };
  const beside = (card) => [...card.closest("main > section").querySelectorAll(".card:not([hidden])")];
  const show = (card) => {
    current = card;
    const [path, classes, scores, labels, url] = photo(card), image = viewer.querySelector("img"), from = card.querySelector("img");
    image.hidden = !from;
    viewer.querySelector(".none").hidden = Boolean(from);
    if (from) image.src = from.src;
    showMap(from && maps[card.dataset.photo], card.dataset.photo, image);
    const cards = beside(card), place = `${(cards.indexOf(card) + 1).toLocaleString("en")} of ${cards.length.toLocaleString("en")}`;
    viewer.querySelector(".eyebrow").textContent = place + (card.classList.contains("wrong") ? ", a mistake" : "");
    viewer.querySelector(".path").textContent = path;
    viewer.querySelector(".open").hidden = !url;
    viewer.querySelector(".open a").href = url;
    viewer.querySelector(".scores").replaceChildren(...classes.map((index, place) => {
      const item = document.createElement("li"), name = document.createElement("span"), score = document.createElement("span");
      name.textContent = data.classes[index];
      score.textContent = percent(scores[place]);
      item.className = labels.includes(index) ? "correct" : "";
      item.append(name, score, bar(scores[place]));
      return item;
    }));
    viewer.querySelector(".labels").textContent = labels.length ? "Labelled: " + labels.map((index) => data.classes[index]).join(", ") : "";
    if (!viewer.open) viewer.showModal();
  };
  const step = (by) => {
    const cards = beside(current);
    show(cards[(cards.indexOf(current) + by + cards.length) % cards.length]);
  };
  document.addEventListener("click", (event) => {
    const card = event.target.closest(".card");
    if (card) show(card);
  });
  viewer.addEventListener("click", (event) => {
    const by = event.target.dataset.step, box = viewer.getBoundingClientRect(), { clientX, clientY } = event;
    const outside = clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom;
    if (event.target === viewer && outside || by === "0") viewer.close();
    else if (by) step(Number(by));
  });
  viewer.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) step(by);
  });
  viewer.addEventListener("close", () => current.focus());
})();
