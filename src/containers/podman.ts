/** Podman, by its Docker-compatible socket (`systemctl enable --now podman.socket`). */
import { Engine, type EngineOptions } from './docker.ts';

/** The Podman of this host; its socket from CONTAINER_HOST, else /run/podman/podman.sock. */
export function podmanEngine(options: Omit<EngineOptions, 'runtime'> = {}): Engine {
  return new Engine({ ...options, runtime: 'podman' });
}
