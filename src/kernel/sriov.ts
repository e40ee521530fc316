/** The virtual functions of a NIC, as /sys tells them. Documentation/PCI/pci-iov-howto.rst, v6.12. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { Vf } from '../model/sriov.ts';

/** What a NIC has. */
export interface PhysicalFunction {
  /** How many virtual functions it could have: `sriov_totalvfs`; 0 where it is no such NIC. */
  readonly most: number;
  readonly vfs: readonly Vf[];
}

/** @param root of sysfs, which shows the links of the namespace that it was mounted in */
export function listVfs(pf: string, root = '/sys'): PhysicalFunction {
  const device = path.join(root, 'class/net', pf, 'device');
  const most = numberIn(path.join(device, 'sriov_totalvfs'));
  const made = numberIn(path.join(device, 'sriov_numvfs'));
  const vfs = Array.from({ length: made }, (_, index): Vf => {
    const [ifname] = namesIn(path.join(device, `virtfn${index}`, 'net'));
    return { index, ifname };
  });
  return { most, vfs };
}

function numberIn(file: string): number {
  try {
    return Number.parseInt(readFileSync(file, 'utf8'), 10) || 0;
  } catch {
    return 0;
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}
