export const THEME_NAME = "caesarion.theme";

/** Sets the theme as chosen here, or as the system has it. Runs in the head, so it must stand alone. */
export const THEME_SCRIPT = `(function(){var t;try{t=localStorage.getItem("${THEME_NAME}")}catch(e){}
if(t!=="light"&&t!=="dark")t=matchMedia("(prefers-color-scheme: dark)").matches?"dark":"light";
document.documentElement.dataset.theme=t})()`;
