/* Lets search work in a site that is opened from a disk: browsers start no workers there, so a hidden frame runs
   the worker's script. Sites behind a web server keep their workers. */
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.srcdoc = "<!doctype html>";
      this.inside = new Promise((resolve) => {
        this.frame.onload = () => {
          const inside = this.frame.contentWindow;
          inside.postMessage = (data) => this.onmessage?.({ data });
          const script = inside.document.createElement("script");
          script.src = new URL(url, location.href).href;
          script.onload = () => resolve(inside);
          script.onerror = (event) => this.onerror?.(event);
          inside.document.head.append(script);
        };
      });
      document.documentElement.append(this.frame);
    }

    postMessage(data) {
      this.inside.then((inside) => inside.onmessage({ data }));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
