/** A request that failed, in one sentence. status: of HTTP, 0 where nobody answered. retryAfter: seconds. */
export class ApiError extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
}
