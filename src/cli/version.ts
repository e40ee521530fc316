/** Put in by scripts/build.mjs from package.json. */
declare const PIPEWRIGHT_VERSION: string;

/** The version of this program, `1.2.3`. */
export const version = typeof PIPEWRIGHT_VERSION === 'string' ? PIPEWRIGHT_VERSION : '0.0.0-dev';
