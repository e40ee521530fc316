/** Failures as HTTP has them. */
import type { ErrorCode } from '../../errors.ts';
import { PipewrightError } from '../../errors.ts';

/** A failure of the API itself; `code` is none of errors.ts. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: 400 | 404 | 409 | 411 | 413;
  readonly code: string;

  constructor(status: ApiError['status'], code: string, message: string) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

type FailureStatus = 400 | 403 | 404 | 409 | 411 | 413 | 415 | 422 | 500 | 501 | 503 | 504;

/** What the body of a failed request has as `error`. */
export interface Failure {
  readonly code: string;
  readonly message: string;
  readonly hint?: string;
}

const statuses: { readonly [C in ErrorCode]?: FailureStatus } = {
  BAD_ARGUMENT: 400,
  BAD_TOPOLOGY: 422,
  NOT_PERMITTED: 403,
  CONTAINER_UNKNOWN: 404,
  CONTAINER_AMBIGUOUS: 409,
  CONTAINER_NOT_RUNNING: 409,
  CONTAINER_GONE: 409,
  CONTAINER_ON_HOST_NETWORK: 409,
  RUNTIME_UNAVAILABLE: 503,
  NETWORK_UNKNOWN: 404,
  LINK_EXISTS: 409,
  NAME_TAKEN: 409,
  KIND_UNSUPPORTED: 501,
  OVS_UNAVAILABLE: 503,
  OVS_TIMEOUT: 504,
  LOCK_TIMEOUT: 504,
  WAIT_TIMEOUT: 504,
};

/** The status and the body's `error`. What is no failure of the user's or the system's is INTERNAL. */
export function failureOf(error: unknown): { readonly status: FailureStatus; readonly failure: Failure } {
  if (error instanceof PipewrightError) {
    const { code, message, hint } = error;
    return {
      status: statuses[code] ?? 500,
      failure: { code, message, ...(hint === undefined ? {} : { hint }) },
    };
  }
  if (error instanceof ApiError) {
    const { status, code, message } = error;
    return { status, failure: { code, message } };
  }
  const text = error instanceof Error ? error.message : String(error);
  // By its looks: the class of a bundled package is not the one that could be imported here.
  if (error instanceof Error && 'getResponse' in error && 'status' in error) {
    return { status: error.status === 415 ? 415 : 400, failure: { code: 'BAD_REQUEST', message: text } };
  }
  return { status: 500, failure: { code: 'INTERNAL', message: text } };
}
